"""One call for those who want no decisions: cut, train, audit, and say why."""
