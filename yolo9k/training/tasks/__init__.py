"""The tasks a network is trained for: detection and classification, behind one interface."""
