"""Coding orders, and the loop that codes a latent along one."""
