"""Write the generated pages: the command line's reference, and where everything is documented and tested.

`python -m docs.tools site` makes a site of all pages in build/site instead (it needs `pip install mkdocs-material`).
"""

import subprocess
import sys

from docs.tools import coverage, reference

if __name__ == "__main__":
    if sys.argv[1:] == ["site"]:
        sys.exit(subprocess.call([sys.executable, "-m", "mkdocs", "build", "--quiet"]))
    reference.PAGE.write_text(reference.page(), encoding="utf-8")
    coverage.PAGE.write_text(coverage.page(), encoding="utf-8")
