"""The entries of one stage: looked up, inserted, admitted, leased and erased."""
