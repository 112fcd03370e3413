"""What differs between operating systems, behind one set of names; nothing else asks which system it runs on.

:data:`here` is :mod:`.posix` on Linux and macOS, and :mod:`.windows` on Windows. Both have these functions:

- ``open_file``, ``flush``, ``flush_file_system``, ``stamp``: a file that is no symbolic link, and what is on the disk.
- ``try_lock``, ``lock``, ``remove_locked``: the lock of an open file, which ends with its process.
- ``rename``, ``replace``, ``exchange``, ``GRACE``: files and folders that take another's place.
- ``start_worker``, ``connection_of``, ``end_with_parent``: a process that ends when its parent does.
- ``installed_memory``: what the machine has.

:mod:`.names` knows the file names that one of the systems does not allow.
"""

import sys

if sys.platform == "win32":
    from lora_mnist_cli.system.platforms import windows as here
else:
    from lora_mnist_cli.system.platforms import posix as here

__all__ = ["here"]
