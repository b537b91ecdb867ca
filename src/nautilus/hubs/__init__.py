"""Where models come from: the Hugging Face hub, NVIDIA's NGC, and tar files for machines without a network.

It knows HTTP, files and checksums. It does not know engines, or what the files of a model mean.
"""
