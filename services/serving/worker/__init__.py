"""Programs that serving starts: the merge of an adapter, and the start of an engine."""
