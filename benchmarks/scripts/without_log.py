"""
The daemon of `twistd upload`, with all of its options, but without a log of
uploads: `python without_log.py --port 6666 --directory inbox`.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.logger import globalLogBeginner

from twisted_upload.refusals import SparingLog
from twisted_upload.tap import Options, make_service


def main() -> None:
    """Serve until told to stop."""
    options = Options()
    options.parseOptions(sys.argv[1:])
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    service = make_service(options.configuration, reactor)
    for doorway in service.doorways:
        factory: Any = doorway.factory
        told = [it for it in factory.witnesses if not isinstance(it, SparingLog)]
        if len(told) == len(factory.witnesses):
            sys.exit("no log of uploads was found that could be left out")
        factory.witnesses = told
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


main()
