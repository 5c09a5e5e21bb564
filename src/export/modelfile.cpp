#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"

namespace retort {

void write_modelfile(const std::filesystem::path& file, const std::filesystem::path& gguf,
                     const LoadedModel& loaded, const std::string& system) {
  // The chat template travels inside the GGUF, where Ollama reads it; the file adds what it does not derive:
  // stop words.
  std::string text = "# Ollama: ollama create NAME -f " + file.filename().string() + "\nFROM ./" +
                     gguf.filename().string() + "\nPARAMETER temperature 0\n";
  if (loaded.chat)
    for (const auto& stop : loaded.chat->stops) text += "PARAMETER stop \"" + stop + "\"\n";
  // Between its three quotes a text is taken as it stands; one that would end them cannot be written.
  constexpr const char* kQuotes = "\"\"\"";
  if (!system.empty() && system.find(kQuotes) == std::string::npos && !system.ends_with('"'))
    text += fmt::format("SYSTEM {}{}{}\n", kQuotes, system, kQuotes);
  else if (!system.empty())
    text +=
        "# The system message that it was trained with cannot be written here: it has quotes at its end\n";
  write_text(file, text);
}

}  // namespace retort
