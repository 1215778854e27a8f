"""
Uploads a file with tuspy, with checksums: ``with_tuspy.py URL FILE STATE BYTES``

It continues what is in the file STATE, and kills itself after so many BYTES; 0 for never.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

CHUNK = 256 * 1024


def main() -> None:
    url, path, state, most = sys.argv[1:]
    storage: Any = FileStorage
    uploader: Any = TusClient(url).uploader(
        path,
        chunk_size=CHUNK,
        metadata={"filename": os.path.basename(path), "filetype": "image/jpeg"},
        store_url=True,
        url_storage=storage(state),
        upload_checksum=True,
        retries=200,
        retry_delay=0.1,
    )
    print("from", uploader.offset, flush=True)
    while uploader.offset < uploader.get_file_size():
        uploader.upload_chunk()
        print(uploader.offset, flush=True)
        if int(most) and uploader.offset >= int(most):
            os.kill(os.getpid(), signal.SIGKILL)


main()
