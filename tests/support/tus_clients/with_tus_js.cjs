// Uploads a file with tus-js-client: node with_tus_js.cjs URL FILE STATE BYTES [OPTIONS]
//
// It continues what is in the file STATE, and kills itself when it has read so many BYTES
// of the file while it sends them; 0 for never.  OPTIONS are those of tus.Upload, as JSON;
// with "asStream", the file is sent like a stream, whose length is not known.

const fs = require("fs");
const path = require("path");
const stream = require("stream");
const tus = require("tus-js-client");

const [url, file, state, most, text] = process.argv.slice(2);
const { asStream, ...options } = JSON.parse(text || "{}");

let read = 0;
const push = fs.ReadStream.prototype.push;
fs.ReadStream.prototype.push = function (data) {
  read += data ? data.length : 0;
  if (Number(most) && read >= Number(most)) process.kill(process.pid, "SIGKILL");
  return push.apply(this, arguments);
};

const source = fs.createReadStream(file);
const upload = new tus.Upload(asStream ? source.pipe(new stream.PassThrough()) : source, {
  endpoint: url,
  metadata: { filename: path.basename(file), filetype: "image/jpeg" },
  retryDelays: Array(200).fill(50),
  urlStorage: new tus.FileUrlStorage(state),
  removeFingerprintOnSuccess: true,
  onProgress(sent) {
    console.log("sent", sent);
  },
  onAfterResponse(request, response) {
    console.log(request.getMethod(), response.getStatus(), response.getHeader("Upload-Offset"));
  },
  onError(error) {
    console.error(String(error));
    process.exitCode = 1;
  },
  onSuccess() {
    console.log("done", upload.url);
  },
  ...options,
});

upload.findPreviousUploads().then((previous) => {
  if (previous.length) upload.resumeFromPreviousUpload(previous[0]);
  upload.start();
});
