"""``python -m twisted_upload`` runs the ``twisted-upload`` command."""

from twisted_upload.cli.entry import main

if __name__ == "__main__":
    main()
