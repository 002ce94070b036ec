"""The rules of serving: entities, plans and decisions. Pure."""
