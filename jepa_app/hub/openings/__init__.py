"""Files that are copied beside weights, where diffusers and transformers look for the code that opens them."""
