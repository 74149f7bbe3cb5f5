"""The instruments of General MIDI, in the order of their programs."""

GENERAL_MIDI = tuple(
    """
    acoustic-grand-piano bright-acoustic-piano electric-grand-piano honky-tonk-piano electric-piano-1 electric-piano-2
    harpsichord clavinet celesta glockenspiel music-box vibraphone marimba xylophone tubular-bells dulcimer
    drawbar-organ percussive-organ rock-organ church-organ reed-organ accordion harmonica tango-accordion
    acoustic-guitar-nylon acoustic-guitar-steel electric-guitar-jazz electric-guitar-clean electric-guitar-muted
    overdriven-guitar distortion-guitar guitar-harmonics acoustic-bass electric-bass-finger electric-bass-pick
    fretless-bass slap-bass-1 slap-bass-2 synth-bass-1 synth-bass-2 violin viola cello contrabass tremolo-strings
    pizzicato-strings orchestral-harp timpani string-ensemble-1 string-ensemble-2 synth-strings-1 synth-strings-2
    choir-aahs voice-oohs synth-voice orchestra-hit trumpet trombone tuba muted-trumpet french-horn brass-section
    synth-brass-1 synth-brass-2 soprano-sax alto-sax tenor-sax baritone-sax oboe english-horn bassoon clarinet piccolo
    flute recorder pan-flute blown-bottle shakuhachi whistle ocarina lead-square lead-sawtooth lead-calliope lead-chiff
    lead-charang lead-voice lead-fifths lead-bass pad-new-age pad-warm pad-polysynth pad-choir pad-bowed pad-metallic
    pad-halo pad-sweep fx-rain fx-soundtrack fx-crystal fx-atmosphere fx-brightness fx-goblins fx-echoes fx-sci-fi sitar
    banjo shamisen koto kalimba bagpipe fiddle shanai tinkle-bell agogo steel-drums woodblock taiko-drum melodic-tom
    synth-drum reverse-cymbal guitar-fret-noise breath-noise seashore bird-tweet telephone-ring helicopter applause
    gunshot
    """.split()  # noqa: SIM905 - read as a text, not as a column
)
"""Names of the 128 programs, each in words that go on a command line."""
