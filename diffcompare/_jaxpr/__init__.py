"""Reading jaxprs: one walk, and interpretation over arrays of any kind of scalar."""
