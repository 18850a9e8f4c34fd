"""A store on a private server of this machine, in a folder, ended with its last user."""
