"""Runs the AWS CLI: one list of arguments a line in, {"status", "stdout", "stderr"} a line out.

The CLI takes longer to load than to make a call, so it is loaded once. Each call is made by a fork,
in which nothing has run before.
"""

import json
import os
import sys
import tempfile

from awscli import clidriver


def run(arguments):
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            status = 255
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(stdout.fileno(), 1)
                os.dup2(stderr.fileno(), 2)
                sys.argv[1:] = arguments
                status = clidriver.main()
            except SystemExit as end:
                status = end.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stdout.seek(0)
        stderr.seek(0)
        return {"status": status, "stdout": stdout.read().decode(), "stderr": stderr.read().decode()}


sys.argv[0] = "aws"
for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
