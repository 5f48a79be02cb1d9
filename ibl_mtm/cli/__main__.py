"""``python -m ibl_mtm.cli``: the same as ``ibl-mtm``."""

from ibl_mtm.cli import main

if __name__ == "__main__":
    main()
