"""What PyInstaller does not see in the code: styles and scripts of our pages, the release of the price list."""

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

datas = [*collect_data_files("cottonpalm"), *copy_metadata("genai-prices")]
