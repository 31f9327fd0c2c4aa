"""What an audit says: the report, and text, page, plots and table made of it."""
