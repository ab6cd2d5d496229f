"""Networks: layers, backbones, the anchor head and their assembly."""
