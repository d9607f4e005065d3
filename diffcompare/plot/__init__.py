"""Results to matplotlib figures. Only this package imports matplotlib."""
