#include "report/markdown.h"

#include <fmt/format.h>

namespace retort {

namespace {

std::string row_markdown(const std::vector<std::string>& cells) {
  std::string row = "|";
  for (const auto& cell : cells) row += fmt::format(" {} |", escape_markdown(cell));
  return row + "\n";
}

std::string hashes_markdown(const std::string& title, const std::vector<FileRecord>& records) {
  if (records.empty()) return "";
  Table table{title, "", {"file", "bytes", "sha256"}, {}, false};
  for (const auto& record : records)
    table.rows.push_back({record.path, std::to_string(record.bytes), record.sha256});
  return fmt::format("\n### {}\n{}", escape_markdown(title), table_markdown(table));
}

}  // namespace

std::string escape_markdown(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r') out += ' ';
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '|' || c == '*' || c == '_' || c == '`' || c == '[' || c == ']' || c == '\\')
      out += std::string("\\") + c;
    else out += c;
  }
  return out;
}

std::string table_markdown(const Table& table) {
  std::string text = "\n" + row_markdown(table.head) + "|";
  for (size_t i = 0; i < table.head.size(); ++i) text += i == 0 || table.prose ? "---|" : "---:|";
  text += "\n";
  for (const auto& row : table.rows) text += row_markdown(row);
  if (!table.note.empty()) text += "\n" + escape_markdown(table.note) + "\n";
  return text;
}

std::string page_markdown(const Page& page) {
  std::string text = fmt::format("# {}\n", escape_markdown(page.title));
  if (!page.about.empty()) text += "\n" + escape_markdown(page.about) + "\n";
  if (!page.facts.empty()) text += "\n";
  for (const auto& [name, value] : page.facts)
    text += fmt::format("- {}: {}\n", escape_markdown(name), escape_markdown(value));
  for (const auto& tile : page.tiles)
    text += fmt::format("- {}: {} {}\n", escape_markdown(tile.label), escape_markdown(tile.value),
                        escape_markdown(tile.note));
  for (const auto* tables : {&page.tables, &page.later_tables})
    for (const auto& table : *tables)
      text += fmt::format("\n## {}\n{}", escape_markdown(table.title), table_markdown(table));
  if (!page.notes.empty()) text += "\n## Notes\n\n";
  for (const auto& note : page.notes) text += fmt::format("- {}\n", escape_markdown(note));
  if (!page.read.empty() || !page.written.empty())
    text +=
        fmt::format("\n## Record\n\nRecipe sha256 {}\n{}{}", page.recipe_sha256,
                    hashes_markdown("Files read", page.read), hashes_markdown("Files written", page.written));
  if (!page.footer.empty()) text += "\n" + escape_markdown(page.footer) + "\n";
  return text;
}

}  // namespace retort
