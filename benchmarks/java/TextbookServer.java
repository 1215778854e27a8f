import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.net.ServerSocket;
import java.net.Socket;

/**
 * The server of this protocol as textbooks write it: a thread per connection,
 * blocks of 8 KiB, a file named by the current millisecond.
 *
 * Two uploads that arrive in the same millisecond overwrite each other, and
 * both are told that they succeeded.
 */
public class TextbookServer {
    public static void main(String[] args) throws IOException {
        String directory = args[1];
        try (ServerSocket server = new ServerSocket(Integer.parseInt(args[0]))) {
            while (true) {
                Socket socket = server.accept();
                new Thread(() -> receive(socket, directory)).start();
            }
        }
    }

    private static void receive(Socket socket, String directory) {
        try (socket) {
            BufferedInputStream in = new BufferedInputStream(socket.getInputStream());
            String name = directory + "/" + System.currentTimeMillis() + ".jpg";
            try (BufferedOutputStream out = new BufferedOutputStream(new FileOutputStream(name))) {
                byte[] block = new byte[8192];
                int length;
                while ((length = in.read(block)) != -1) {
                    out.write(block, 0, length);
                }
            }
            socket.getOutputStream().write("上传成功".getBytes("UTF-8"));
        } catch (IOException e) {
            e.printStackTrace();
        }
    }
}
