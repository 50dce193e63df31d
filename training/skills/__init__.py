"""One module a skill: `make(maker) -> Case`."""
