"""What the compiler says about a spec: frozen data, collected, sorted and rendered."""
