"""The core's own plugins, ``zoo`` and ``cifar``: loaded through entry points like any other."""
