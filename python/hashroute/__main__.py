"""``python -m hashroute`` is the command line."""

from hashroute.cli import main

if __name__ == "__main__":
    main(prog_name="hashroute")
