#include "base/files.h"
#include "export/artefacts.h"

namespace retort {

void write_modelfile(const std::filesystem::path& file, const std::filesystem::path& gguf,
                     const LoadedModel& loaded) {
  // The chat template travels inside the GGUF, where Ollama reads it; the file adds what it does not derive:
  // stop words.
  std::string text = "# Ollama: ollama create NAME -f " + file.filename().string() + "\nFROM ./" +
                     gguf.filename().string() + "\nPARAMETER temperature 0\n";
  if (loaded.chat)
    for (const auto& stop : loaded.chat->stops) text += "PARAMETER stop \"" + stop + "\"\n";
  write_text(file, text);
}

}  // namespace retort
