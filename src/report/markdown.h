// The same page as Markdown, for people and hubs that read that.
#pragma once
#include "report/page.h"

namespace retort {

// A table's cells and a list's lines, with what Markdown or HTML would take for its own made harmless.
std::string escape_markdown(const std::string& text);
std::string table_markdown(const Table& table);  // without its title
// Title, facts, tiles, tables, notes, hashes; no charts and no samples.
std::string page_markdown(const Page& page);

}  // namespace retort
