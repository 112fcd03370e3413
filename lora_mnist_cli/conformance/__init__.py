"""A bench for LoRA code, anyone's: laws that an implementation has to keep, behind a small protocol."""
