"""The plots: one chart each, interactive on the page, an SVG beside the Markdown."""
