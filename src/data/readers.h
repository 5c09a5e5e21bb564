// The file formats behind read_records(). Each calls `take` once a row, with the row's columns and its place.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "data/record.h"

namespace retort {

inline constexpr size_t kLongestLine = size_t{16} << 20;  // bytes of one JSONL line, CSV record or text line

using TakeColumns = std::function<void(Columns columns, std::string place)>;
using TakeBad = std::function<void(const std::string& problem)>;  // "file:line: what is wrong"

// The lines of a file that are not blank, without their ends; a BOM at the start and CRLF are accepted, the
// last line needs no newline. FormatError for a line over 16 MiB. What a line holds is not looked at.
void read_lines(std::string_view content, std::string_view file,
                const std::function<void(std::string_view line, std::string place)>& take);

// The object that a line of JSONL is; FormatError for NUL bytes, invalid UTF-8, lone surrogates, and anything
// but an object.
Json parse_json_line(std::string_view line, std::string_view place);

// JSONL: one object a line. A BOM at the start and CRLF are accepted, blank lines are skipped, the last line
// needs no newline. NUL bytes, invalid UTF-8, lone surrogates, lines over 16 MiB, and anything but an object
// are FormatErrors with the line.
void read_json_lines(std::string_view content, std::string_view file,
                     const std::function<void(const Json& object, std::string place)>& take);

// A JSON array of records, each handed over as it stands in the file with the line that it begins in.
// FormatError for an array that is not closed, for anything after it, and for a record over 16 MiB.
bool is_json_array(std::string_view content);
void read_json_array(std::string_view content, std::string_view file,
                     const std::function<void(std::string_view record, std::string place)>& take);

// The text of a file that cannot be read where it lies: unpacked (.gz, .zst), or in another encoding than
// UTF-8. nullopt for all others. At most 1 GiB of text is made.
std::optional<std::string> text_of_file(std::string_view content, std::string_view file,
                                        std::string_view encoding);
// FormatError that says what to do, for a file that is UTF-16, packed under another name, or no text at all.
void require_plain_text(std::string_view content, std::string_view file);

struct CsvForm {
  CsvForm(char between, bool with_quotes = true) : delimiter(between), quotes(with_quotes) {}
  char delimiter;
  bool quotes;  // a field may stand in quotes; else they are characters like others
};

// What divides the header and the first row of a CSV file into the same, largest number of fields, of , ; |
// and tab; the usual one when several do or none.
char guessed_delimiter(std::string_view content, CsvForm usual);

// CSV (RFC 4180) with a header row; fields may be quoted, hold newlines and doubled quotes. Ragged rows,
// stray or missing quotes, duplicate or empty column names, NUL and invalid UTF-8 are FormatErrors with the
// line. `passed` hears how many bytes of the content are done with. With `bad` a broken row is told and the
// reading goes on with the next line.
void read_csv(std::string_view content, std::string_view file, CsvForm form, const TakeColumns& take,
              const std::function<void(size_t bytes)>& passed = nullptr, const TakeBad& bad = nullptr);

// The ICD-10-CM tabular list of CDC/NCHS (XML). Columns: code, description, category (three characters),
// category_description, section, chapter (number), chapter_description, terms (inclusion terms joined by ";
// ").
void read_icd10cm(std::string_view content, std::string_view file, const TakeColumns& take);

// One *.LICENSE file of the ScanCode LicenseDB: front matter, then the text. Columns: key, name, short_name,
// category, owner, spdx, is_exception (yes/no), osi (yes/no), obligations, text. See licence_obligations().
void read_licence(std::string_view content, std::string_view file, const TakeColumns& take);

// What a licence asks for, from its category and from phrases of its text; joined by "; ", "none" when
// nothing is found. A weak label, good for training and comparison, not legal advice.
std::string licence_obligations(std::string_view category, std::string_view text);

// FormatError at the first NUL byte or invalid UTF-8 sequence (overlong forms and surrogates included).
void require_text(std::string_view text, std::string_view file, std::string_view object);

// Without a UTF-8 BOM.
std::string_view without_bom(std::string_view content);

}  // namespace retort
