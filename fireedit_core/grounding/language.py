# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be read by words at all: English of a sensible length. What cannot is told apart, so that the message says what can read it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from ..instructions import VERBS, has_words

MOST = 1_000  # characters of an instruction
_READS = (
    "Words are read in English only. A language model reads other languages: connect FireEdit Grounder Loader to FireEdit Ground. Or write "
    "the instruction in English, or pick the region with the mouse in FireEdit Region Select."
)
_SCRIPTS = {
    "CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "CYRILLIC": "a language in Cyrillic "
    "letters", "ARABIC": "Arabic or Persian", "HEBREW": "Hebrew", "GREEK": "Greek", "THAI": "Thai",
    "DEVANAGARI": "Hindi or a neighbour of it",
    "BENGALI": "Bengali", "TAMIL": "Tamil", "ARMENIAN": "Armenian", "GEORGIAN": "Georgian",
}  # fmt: skip
# Words that an instruction in the language has and an English one has not. "die", "den", "no", "me" and the like are left out.
_STOPS = {
    "German": "der das dem des ein eine einen einem einer und bitte entferne entfernen mach mache mit auf ist hintergrund ändere färbe "
    "lösche im vom zum zur aus alle rot blau grün gelb schwarz weiß hund katze mann frau ersetze weg heller dunkler den",
    "French": "le la les un une des du et avec dans sur pas supprime supprimer enlève enlever retire efface mets rends fais change-le fond "
    "rouge bleu vert jaune noir blanc chien chat homme femme remplace par l'homme l'arrière-plan en ce cette plus",
    "Spanish": "el la los las un una del y con por quita quitar elimina eliminar borra haz pon cambia fondo rojo azul verde amarillo negro "
    "blanco perro gato hombre mujer reemplaza el de que esta este",
    "Italian": "il lo gli una uno del della dei con rimuovi rimuovere togli elimina cancella rendi cambia sfondo rosso blu verde giallo "
    "nero bianco cane gatto uomo donna sostituisci il di la e che fai metti",
    "Portuguese": "o os uma um do da dos das com remova remover apague tire faça mude fundo vermelho azul verde amarelo preto branco "
    "cachorro gato homem mulher substitua e por que deixe coloque",
    "Dutch": "de het een en met verwijder verwijderen haal weg maak achtergrond rood blauw groen geel zwart wit hond kat man vrouw "
    "vervang door van niet de",
}  # fmt: skip
_LANGUAGES = {language: frozenset(words.split()) - {"man", "e", "o", "en"} for language, words in _STOPS.items()}
_ENGLISH = frozenset((
    *VERBS, "the", "and", "to", "of", "it", "its", "this", "that", "these", "those", "with", "without", "on", "in", "at", "from",
    "into", "please",
    "all", "both", "every", "everything", "everyone", "is", "be", "should", "but", "except", "not", "don't", "for", "by", "delete",
    "erase", "blur",
    "brighten", "darken", "behind", "my", "his", "her", "their", "them", "him", "i", "you", "look", "like", "as", "a", "an", "off",
    "out", "only",
))  # fmt: skip


def check_readable(instruction: str) -> str:
    """The instruction as it can be read: one kind of spaces and quotes, no invisible characters.

    Raises:
        ValueError: in words, for nothing, no words (signs, an emoji), too many, or another language than English.
    """
    if not isinstance(instruction, str):
        raise ValueError(f"the instruction must be text, got {type(instruction).__name__}.")
    if len(instruction) > MOST:
        raise ValueError(f"the instruction has {len(instruction)} characters; up to {MOST} are read. Say what to edit in a sentence.")
    text = unicodedata.normalize("NFKC", instruction)
    # what is not seen (marks of direction, joiners) would stand between the letters of a word
    seen = (c for c in text if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc", "Cs", "Co"))
    text = "".join(" " if c.isspace() and c != "\n" else c for c in seen)
    text = text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"').strip()
    if not text:
        raise ValueError('the instruction is empty. Say what to edit, for example "remove the cat" or "make the cup blue".')
    if not has_words(text):
        raise ValueError('the instruction has no words. Say what to edit, for example "remove the cat" or "make the cup blue".')
    text = _without_signs(text)
    language = foreign_language(text)
    if language:
        raise ValueError(f"the instruction looks like {language}. {_READS}")
    return text


def check_words(text: str, what: str) -> None:
    """Refuse a part of an instruction that is written in letters which are not read: "make it \u7ea2\u8272".

    Raises:
        ValueError: naming the part and the language.
    """
    language = _by_script(text)
    if language:
        raise ValueError(f"{what} {text[:40]!r} looks like {language}. {_READS}")


def _without_signs(text: str) -> str:
    """A text without emoji and other signs at its ends and beside its words, as people add them; those alone after a verb stay."""
    bare = " ".join("".join(" " if unicodedata.category(c) in ("So", "Sk") or c in "\ufe0f\u20e3" else c for c in text).split(" ")).strip()
    return bare if len(re.findall(r"[^\W\d_]+", bare)) > 1 else text


def foreign_language(text: str) -> str:
    """The language of a text that is not English, as people call it; "" for English, and for what cannot be told."""
    language = _by_script(text)
    if language:
        return language
    words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text.lower())
    english = sum(word in _ENGLISH for word in words)
    hits = {language: sum(word in stops for word in words) for language, stops in _LANGUAGES.items()}
    best = max(hits, key=hits.__getitem__)
    if hits[best] > english and (hits[best] >= 2 or not english):
        return best
    return ""


def _by_script(text: str) -> str:
    """The language of a text most of whose letters are not Latin, as people call it; "" for others."""
    polite = re.sub(r"\b(?:please|thanks|thank you|ok)\b", " ", text, flags=re.IGNORECASE)
    letters = [character for character in polite if character.isalpha()]
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in letters)
    other = {script: count for script, count in scripts.items() if script not in ("LATIN", "FEMININE", "MASCULINE", "MODIFIER")}
    if 2 * sum(other.values()) <= len(letters):
        return ""
    # Japanese writes Chinese characters between its own
    script = next((s for s in ("HIRAGANA", "KATAKANA") if s in other), max(other, key=other.__getitem__))
    return _SCRIPTS.get(script, f"a language in {script.capitalize()} letters" if script else "another language")
