"""Write the generated pages: the command line's reference, and where everything is documented and tested."""

from docs.tools import coverage, reference

if __name__ == "__main__":
    reference.PAGE.write_text(reference.page(), encoding="utf-8")
    coverage.PAGE.write_text(coverage.page(), encoding="utf-8")
