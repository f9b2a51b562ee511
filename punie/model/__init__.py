"""Models as arrays: resolve, load, generate, fuse and quantize, measure."""
