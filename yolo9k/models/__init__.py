"""Networks: layers, norms, backbones, necks and the anchor head, and the detectors built from them."""
