// @tus/server with its S3 store: tus_s3_server.js PORT BUCKET
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const [port, bucket] = process.argv.slice(2);
const s3ClientConfig = {
  bucket,
  region: process.env.AWS_REGION,
  endpoint: process.env.AWS_ENDPOINT_URL,
  forcePathStyle: true,
  credentials: {
    accessKeyId: process.env.AWS_ACCESS_KEY_ID,
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
  },
};
const datastore = new S3Store({ partSize: 8 * 1024 * 1024, s3ClientConfig });
const server = new Server({ path: "/files", datastore });
server.listen({ host: "127.0.0.1", port: Number(port) });
