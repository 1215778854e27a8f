/*
 * The floor: the least that a receiver of this protocol can do on this kernel.
 *
 *   floor loop PORT DIRECTORY     one connection after the other, one thread
 *   floor splice PORT DIRECTORY   a thread per connection, socket -> pipe -> file
 *   floor recv PORT DIRECTORY     a thread per connection, recv 1 MiB + write
 *   floor sink PORT DIRECTORY     as recv, and discards everything
 *   floor durable PORT DIRECTORY  64 threads, each takes the next connection: recv + write
 *                                 of what is small, splice of the rest; then fsync, rename,
 *                                 fsync of the directory, and only then the answer
 *
 * It has no limits and hardly any error handling.  `durable` guarantees what the daemon
 * guarantees, the others nothing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MIB = 1 << 20, SMALL = 64 << 10, THREADS = 64 };
static const char ANSWER[] = "上传成功";
static const char *directory;
static long serial;
static int listener;

static void die(const char *what) { perror(what); exit(2); }

static long next(void) { return __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED); }

static int create_at(const char *name)
{
    int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) die(name);
    return file;
}

static int create(void)
{
    char name[4096];
    snprintf(name, sizeof name, "%s/%ld.bin", directory, next());
    return create_at(name);
}

static void store(int file, const char *data, ssize_t size)
{
    for (ssize_t n; size > 0; data += n, size -= n)
        if ((n = write(file, data, size)) < 0) die("write");
}

static void finish(int peer)
{
    if (send(peer, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) perror("send");
    close(peer);
}

static void receive(int peer, char *buffer)
{
    int file = create();
    for (ssize_t n; (n = recv(peer, buffer, MIB, 0)) > 0;) store(file, buffer, n);
    close(file);
    finish(peer);
}

static void *receiving(void *peer)
{
    char *buffer = malloc(MIB);
    receive((int)(long)peer, buffer);
    free(buffer);
    return 0;
}

static void *sinking(void *argument)
{
    int peer = (int)(long)argument;
    while (recv(peer, 0, 16 * MIB, MSG_TRUNC) > 0) continue;
    finish(peer);
    return 0;
}

static void open_pipe(int *ends)
{
    if (pipe2(ends, O_CLOEXEC)) die("pipe2");
    fcntl(ends[1], F_SETPIPE_SZ, MIB);
}

static void splice_rest(int peer, int file, const int *ends)
{
    for (ssize_t n; (n = splice(peer, 0, ends[1], 0, MIB, SPLICE_F_MOVE)) > 0;)
        for (ssize_t moved; n > 0; n -= moved)
            if ((moved = splice(ends[0], 0, file, 0, n, SPLICE_F_MOVE)) <= 0) die("splice");
}

static void *splicing(void *argument)
{
    int peer = (int)(long)argument, file = create(), ends[2];
    open_pipe(ends);
    splice_rest(peer, file, ends);
    close(ends[0]);
    close(ends[1]);
    close(file);
    finish(peer);
    return 0;
}

static void *keeping(void *unused)
{
    char *buffer = malloc(SMALL), part[4096], name[4096];
    int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ends[2] = {-1, -1};
    (void)unused;
    if (folder < 0) die(directory);
    for (;;) {
        int peer = accept4(listener, 0, 0, SOCK_CLOEXEC);
        if (peer < 0) continue;
        long number = next();
        snprintf(part, sizeof part, "%s/.%ld.part", directory, number);
        snprintf(name, sizeof name, "%s/%ld.bin", directory, number);
        int file = create_at(part);
        ssize_t n, size = 0;
        while (size < SMALL && (n = recv(peer, buffer + size, SMALL - size, 0)) > 0) size += n;
        store(file, buffer, size);
        if (size == SMALL) {
            if (ends[0] < 0) open_pipe(ends);
            splice_rest(peer, file, ends);
        }
        if (fsync(file) || close(file)) die("fsync");
        if (rename(part, name)) die("rename");
        if (fsync(folder)) die("fsync of the directory");
        finish(peer);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) { fputs("floor loop|splice|recv|sink|durable PORT DIRECTORY\n", stderr); return 2; }
    void *(*work)(void *) = argv[1][0] == 'l' ? 0 : argv[1][1] == 'p' ? splicing
                          : argv[1][1] == 'i' ? sinking : receiving;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    char *buffer = malloc(MIB);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    directory = argv[3];
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024)) die("listen");
    if (argv[1][0] == 'd') {
        pthread_t thread;
        for (int i = 1; i < THREADS; i++)
            if (pthread_create(&thread, 0, keeping, 0)) die("pthread_create");
        keeping(0);
    }
    for (;;) {
        int peer = accept4(listener, 0, 0, SOCK_CLOEXEC);
        pthread_t thread;
        if (peer < 0) continue;
        if (!work) { receive(peer, buffer); continue; }
        if (pthread_create(&thread, 0, work, (void *)(long)peer)) die("pthread_create");
        pthread_detach(thread);
    }
}
