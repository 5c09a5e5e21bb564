#include "data/personal_data.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "text/pattern.h"

namespace retort {
namespace {

constexpr size_t kShown = 5;
constexpr const char* kNames[kPersonalKinds] = {
    "an e-mail address", "a phone number", "an IBAN",      "a card number",
    "a national number", "an IP address",  "a birth date",
};

std::string digits_of(std::string_view text) {
  std::string digits;
  std::copy_if(text.begin(), text.end(), std::back_inserter(digits),
               [](unsigned char c) { return std::isdigit(c); });
  return digits;
}

int digit(char c) { return c - '0'; }

bool luhn(std::string_view digits) {
  int sum = 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    int d = digit(digits[digits.size() - 1 - i]);
    if (i % 2 == 1 && (d *= 2) > 9) d -= 9;
    sum += d;
  }
  return sum % 10 == 0;
}

bool card(std::string_view found) {
  const auto digits = digits_of(found);
  return digits.size() >= 13 && digits.size() <= 19 &&
         std::any_of(digits.begin(), digits.end(), [&](char c) { return c != digits[0]; }) && luhn(digits);
}

// ISO 13616: the first four characters to the end, letters as numbers from 10, modulo 97.
bool iban(std::string_view found) {
  std::string text;
  for (const unsigned char c : found)
    if (std::isalnum(c)) text += static_cast<char>(std::toupper(c));
  if (text.size() < 15 || text.size() > 34) return false;
  int rest = 0;
  const auto take = [&](char c) {
    rest = std::isdigit(static_cast<unsigned char>(c)) ? (rest * 10 + digit(c)) % 97
                                                       : (rest * 100 + (c - 'A' + 10)) % 97;
  };
  for (size_t i = 4; i < text.size() + 4; ++i) take(text[i % text.size()]);
  return rest == 1;
}

// ISO 7064 MOD 11,10; one digit occurs twice or three times among the first ten.
bool german_tax(std::string_view found) {
  const auto digits = digits_of(found);
  if (digits.size() != 11 || digits[0] == '0') return false;
  int counts[10] = {}, repeated = 0;
  for (size_t i = 0; i < 10; ++i) ++counts[digit(digits[i])];
  for (const int count : counts) repeated += count == 2 || count == 3;
  if (repeated != 1 || *std::max_element(counts, counts + 10) > 3) return false;
  int product = 10;
  for (size_t i = 0; i < 10; ++i) {
    int sum = (digit(digits[i]) + product) % 10;
    if (sum == 0) sum = 10;
    product = sum * 2 % 11;
  }
  return (11 - product) % 10 == digit(digits[10]);
}

bool french_nir(std::string_view found) {
  const auto digits = digits_of(found);
  if (digits.size() != 15) return false;
  return 97 - std::stoll(digits.substr(0, 13)) % 97 == std::stoll(digits.substr(13));
}

bool spanish(std::string_view found) {
  std::string text;
  for (const unsigned char c : found)
    if (std::isalnum(c)) text += static_cast<char>(std::toupper(c));
  if (text.size() != 9) return false;
  std::string number = text.substr(0, 8);
  if (const auto at = std::string_view("XYZ").find(number[0]); at != std::string_view::npos)
    number[0] = static_cast<char>('0' + at);
  if (digits_of(number).size() != 8) return false;
  return "TRWAGMYFPDXBNJZSQVHLCKE"[std::stoll(number) % 23] == text[8];
}

bool swiss(std::string_view found) {
  const auto digits = digits_of(found);
  int sum = 0;
  for (size_t i = 0; i < 12 && i < digits.size(); ++i) sum += digit(digits[i]) * (i % 2 == 0 ? 1 : 3);
  return digits.size() == 13 && (10 - sum % 10) % 10 == digit(digits[12]);
}

bool brazilian(std::string_view found) {
  const auto digits = digits_of(found);
  if (digits.size() != 11) return false;
  for (size_t n = 9; n < 11; ++n) {
    int sum = 0;
    for (size_t i = 0; i < n; ++i) sum += digit(digits[i]) * static_cast<int>(n + 1 - i);
    if (sum * 10 % 11 % 10 != digit(digits[n])) return false;
  }
  return true;
}

bool address(std::string_view found) {
  size_t begin = 0;
  for (int part = 0; part < 4; ++part) {
    const auto end = std::min(found.find('.', begin), found.size());
    if (std::stoi(std::string(found.substr(begin, end - begin))) > 255) return false;
    begin = end + 1;
  }
  return found != "127.0.0.1" && found != "0.0.0.0" && !found.starts_with("255.");
}

bool phone(std::string_view found) {
  const auto count = digits_of(found).size();
  return count >= 8 && count <= 15;
}

bool any_of(std::string_view) { return true; }

struct Kind {
  Personal kind;
  const char* pattern;
  bool (*right)(std::string_view found);
};

// Digits do not go on before or behind what is found.
constexpr Kind kKinds[] = {
    {Personal::email, R"((?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}\p{L}{2,24}(?![\w]))", any_of},
    {Personal::phone,
     R"((?<![\w+]|\d )(?:\+|00)[1-9]\d{0,2}[ ./-]?(?:\(0?\d{1,4}\)[ ./-]?)?\d(?:[ ./-]?\d){6,12}(?!\d))",
     phone},
    {Personal::phone,
     R"((?i)\b(?:tel|telefon|phone|mobile|mobil|handy|fax|téléphone|portable|móvil|电话|手机|電話)\b)"
     R"([^\n\d]{0,8}\(?\d(?:[ ()./-]{0,2}\d){6,14}(?!\d))",
     phone},
    {Personal::phone, R"((?<![\w.-])(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-]))", phone},
    {Personal::iban, R"((?<!\w)[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]){11,30}(?![A-Za-z0-9]))", iban},
    {Personal::card, R"((?<![\d.,-])[3-6]\d{3}(?:[ -]?\d){9,15}(?![\d]))", card},
    {Personal::national, R"((?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-]))", any_of},
    {Personal::national, R"((?<![\d.,])[1-9]\d(?: ?\d{3}){3}(?![\d]))", german_tax},
    {Personal::national, R"((?<!\d)[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?\d\d ?\d{3} ?\d{3} ?\d\d(?!\d))",
     french_nir},
    {Personal::national, R"((?<!\w)(?:\d{8}|[XYZ]\d{7})-?[A-Z](?!\w))", spanish},
    {Personal::national, R"((?<!\w)[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w))", any_of},
    {Personal::national, R"((?<!\d)756\.?\d{4}\.?\d{4}\.?\d{2}(?!\d))", swiss},
    {Personal::national, R"((?<!\d)\d{3}\.\d{3}\.\d{3}-\d{2}(?!\d))", brazilian},
    {Personal::address, R"((?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]))", address},
    {Personal::birth,
     R"((?i)\b(?:born|geboren|geb|né|née|nato|nata|nacido|nacida|d\.?o\.?b|date of birth|birth ?date|)"
     R"(geburtsdatum)\b[^\n\d]{0,12}\d{1,4}[./ -](?:\d{1,2}|\p{L}{3,10})[./, -]{1,2}\d{2,4}(?!\d))",
     any_of},
};

const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> all = [] {
    std::vector<Pattern> made;
    for (const auto& kind : kKinds) made.emplace_back(kind.pattern, "data.personal_data");
    return made;
  }();
  return all;
}

// Words of a name: "patientName", "patient_name", "Patient Name".
std::vector<std::string> words_of_name(std::string_view name) {
  std::vector<std::string> words(1);
  for (size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    const bool begins = std::isupper(c) && i > 0 && std::islower(static_cast<unsigned char>(name[i - 1]));
    if ((c < 0x80 && !std::isalnum(c)) || begins) words.emplace_back();
    if (c >= 0x80 || std::isalnum(c)) words.back() += static_cast<char>(c < 0x80 ? std::tolower(c) : c);
  }
  return words;
}

}  // namespace

uint32_t personal_data(std::string_view text, std::string_view place) {
  const bool mail = text.find('@') != std::string_view::npos;
  const auto digits =
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
  if (!mail && digits < 4) return 0;
  uint32_t kinds = 0;
  for (size_t k = 0; k < std::size(kKinds); ++k) {
    const auto bit = uint32_t{1} << static_cast<uint32_t>(kKinds[k].kind);
    if (kinds & bit || (kKinds[k].kind == Personal::email ? !mail : digits < 4)) continue;
    patterns()[k].each_in(text, place, [&](std::string_view found) {
      if (!kKinds[k].right(found)) return true;
      kinds |= bit;
      return false;
    });
  }
  return kinds;
}

uint32_t personal_data(const Record& record) {
  auto kinds = personal_data(record.text, record.place);
  for (const auto& message : record.messages)
    for (const auto* part : {&message.content, &message.fields}) kinds |= personal_data(*part, record.place);
  return kinds;
}

bool names_a_person(std::string_view column) {
  static const std::set<std::string, std::less<>> kWords = {"email",     "mail",
                                                            "phone",     "telephone",
                                                            "telefon",   "mobile",
                                                            "birthday",  "birthdate",
                                                            "birth",     "dob",
                                                            "ssn",       "iban",
                                                            "passport",  "surname",
                                                            "firstname", "lastname",
                                                            "forename",  "vorname",
                                                            "nachname",  "geburtsdatum",
                                                            "patient",   "versichertennummer",
                                                            "address",   "adresse",
                                                            "anschrift", "steuernummer",
                                                            "mrn",       "nhs"};
  const auto words = words_of_name(column);
  for (size_t i = 0; i < words.size(); ++i) {
    if (kWords.count(words[i])) return true;
    if (words[i] != "name" || i == 0) continue;
    for (const char* before : {"first", "last", "full", "user", "client", "customer", "given", "family"})
      if (words[i - 1] == before) return true;
  }
  return false;
}

PersonalData find_personal_data(const RecordSource& source, const RecordPlan& plan) {
  PersonalData all;
  std::set<std::string> fields;
  source.pass(
      [&](int64_t row) {
        return row < static_cast<int64_t>(plan.rows.size()) && plan.rows[static_cast<size_t>(row)].copies > 0;
      },
      [&](int64_t, const Record& record) -> RecordSource::Later {
        const auto kinds = personal_data(record);
        std::vector<std::string> named;
        for (const auto& [name, value] : record.columns)
          if (names_a_person(name)) named.push_back(name);
        if (kinds == 0 && named.empty()) return nullptr;
        return [&, kinds, named = std::move(named), place = record.place] {
          fields.insert(named.begin(), named.end());
          if (kinds == 0) return;
          ++all.records;
          for (size_t k = 0; k < kPersonalKinds; ++k) all.kinds[k] += kinds >> k & 1;
          if (all.places.size() < kShown) all.places.push_back(place);
        };
      });
  all.fields.assign(fields.begin(), fields.end());
  return all;
}

std::string describe(const PersonalData& found) {
  std::string text;
  if (found.records > 0) {
    std::string kinds, places;
    for (size_t k = 0; k < kPersonalKinds; ++k)
      if (found.kinds[k] > 0)
        kinds += fmt::format("{}{} in {}", kinds.empty() ? "" : ", ", kNames[k], found.kinds[k]);
    for (const auto& place : found.places) places += (places.empty() ? "" : ", ") + printable(place);
    text = fmt::format(
        "personal data in {} record{}: {} ({}{}). A model may repeat it; data.personal_data: leave_out does "
        "not use such records. Names of people are not looked for",
        found.records, found.records == 1 ? "" : "s", kinds, places,
        static_cast<size_t>(found.records) > found.places.size() ? " and others" : "");
  }
  if (!found.fields.empty()) {
    std::string fields;
    for (const auto& field : found.fields) fields += (fields.empty() ? "" : ", ") + printable(field);
    text +=
        fmt::format("{}columns whose names say that a person is meant: {}", text.empty() ? "" : "\n", fields);
  }
  return text;
}

}  // namespace retort
