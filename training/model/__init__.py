"""Networks: backbones with centred striding, heads, and what decodes them."""
