"""MTVCrafter: one character from the 4D positions of its joints and a reference picture."""
