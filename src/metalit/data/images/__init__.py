"""Images from files: reading, resizing, finding, and the data set of one's own pictures.

The rule here: a file that cannot be used is named with its reason, and an image has the same pixels in every form
of a data set.
"""

from metalit.data.images.finding import BadFile, find_images
from metalit.data.images.image_folder import ImageFolder
from metalit.data.images.loading import Photos, read_labelled, read_pixels, read_unlabelled
from metalit.data.images.picture_form import PictureForm
from metalit.data.images.reading import read_image
from metalit.data.images.resizing import Resize
from metalit.data.images.stored import EncodedExamples, FileExamples

__all__ = [
    "BadFile",
    "EncodedExamples",
    "FileExamples",
    "ImageFolder",
    "Photos",
    "PictureForm",
    "Resize",
    "find_images",
    "read_image",
    "read_labelled",
    "read_pixels",
    "read_unlabelled",
]
