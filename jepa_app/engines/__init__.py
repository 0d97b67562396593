"""Where pictures are made for many at a time: one port, with a thread, a ZeroGPU Space or a Ray cluster behind it."""
