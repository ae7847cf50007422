"""Pictures of an architecture, drawn from the IR: SVG and Mermaid."""
