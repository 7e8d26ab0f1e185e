"""The hub's health check within its container: exit status 0 when /health/ready answers 200, else 1 and its words."""

import os
import sys
import urllib.error
import urllib.request

url = f"http://127.0.0.1:{os.environ.get('LABRELAY_HUB_PORT', '8000')}/health/ready"
try:
    with urllib.request.urlopen(url, timeout=4) as answer:
        sys.exit(answer.status != 200)
except urllib.error.HTTPError as error:
    sys.exit(error.read(2000).decode(errors="replace"))
except OSError as error:
    sys.exit(str(error))
