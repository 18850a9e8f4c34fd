"""The search for the settings with which a job is fastest; what is measured is given to it."""
