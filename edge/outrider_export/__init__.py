"""Makes drafter bundles out of Hugging Face model directories.

The one part of the edge that imports torch: exporting runs where there is room, not on the device.
"""

from outrider_export.decoder import refuse_unknown
from outrider_export.draft_vocabulary import DraftVocabulary
from outrider_export.export import export_bundle, write_bundle
from outrider_export.quantise import Scheme

__all__ = ["DraftVocabulary", "Scheme", "export_bundle", "refuse_unknown", "write_bundle"]
