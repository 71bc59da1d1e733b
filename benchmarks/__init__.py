"""What is measured, against what, and whether it is what we promised. See README.md in this
folder."""
