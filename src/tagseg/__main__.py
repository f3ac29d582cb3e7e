"""`python -m tagseg`, for launchers of several processes such as `torchrun -m tagseg train ...`."""

from tagseg.cli import main

if __name__ == "__main__":
    main()
