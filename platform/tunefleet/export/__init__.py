"""Export: a bundle in the forms that others read.

``place`` keeps what is exported whole or absent; each form has a file of its own: ``folder``
(plain Hugging Face), ``onnx``, ``gguf``, ``oci`` and ``hub``.
"""
