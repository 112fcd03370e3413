"""Web pages: a record in, one HTML file out, which needs no network and no other file.

A page is a folder of readable HTML, CSS and JavaScript; :mod:`~lora_mnist_cli.pages.assembly` makes one file of it.
This room may import ``system``. Read that module first, then ``explore/page.html`` and ``explore/main.js``.
"""
