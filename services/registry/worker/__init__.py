"""The program that prepares a model: fetch, check, describe, store."""
