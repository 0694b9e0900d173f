"""How vgg16-tiny was trained: ``python -m training --help``; the story is docs/vgg16-tiny.md."""
